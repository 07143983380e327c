# Completion of agentcore for bash. The program itself knows what may stand where.
_agentcore() {
    local line prefix files='' words=() cur
    # The words as they were typed: bash would cut them at `:` and `=`.
    read -ra words <<<"${COMP_LINE:0:COMP_POINT}"
    if [[ ${COMP_LINE:0:COMP_POINT} == *[[:space:]] ]]; then words+=(''); fi
    cur=${words[${#words[@]} - 1]}
    prefix=${cur%"${COMP_WORDS[COMP_CWORD]}"}
    [[ ${COMP_WORDS[COMP_CWORD]} == [:=] ]] && prefix=$cur
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ $line == :files ]]; then
            files=1
        else
            line=${line%%$'\t'*}
            COMPREPLY+=("${line#"$prefix"}")
        fi
    done < <("$1" complete -- "${words[@]}" 2>/dev/null)
    # A session is only the beginning of a path in it.
    if [[ ${#COMPREPLY[@]} -gt 0 && ${COMPREPLY[0]} == *: ]]; then compopt -o nospace 2>/dev/null; fi
    if [[ -n $files ]]; then
        compopt -o filenames 2>/dev/null
        while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")
    fi
}
complete -F _agentcore agentcore
