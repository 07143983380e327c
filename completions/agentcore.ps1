# Completion of agentcore for PowerShell. The program itself knows what may stand where.
Register-ArgumentCompleter -Native -CommandName agentcore -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | ForEach-Object { "$_" })
    # Older versions drop an empty argument, newer ones hand the quotes on; the program takes both for nothing.
    if ($wordToComplete -eq '') { $words += '""' }
    & $words[0] complete -- @words 2>$null | ForEach-Object {
        if ($_ -ne ':files') {
            $value, $about = $_ -split "`t", 2
            if (-not $about) { $about = $value }
            [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $about)
        }
    }
}
