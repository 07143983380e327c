# Completion of agentcore for fish. The program itself knows what may stand where.
function __agentcore_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    for line in ($words[1] complete -- $words "$current" 2>/dev/null)
        if test "$line" = ':files'
            __fish_complete_path "$current"
        else
            echo $line
        end
    end
end
complete -c agentcore -f -a '(__agentcore_complete)'
