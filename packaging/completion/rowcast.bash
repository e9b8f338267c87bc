# bash completion for rowcast
_rowcast() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
    COMPREPLY=()
    case $before in
        -c | --config-file | --token-file | --tls-keylog)
            COMPREPLY=($(compgen -f -- "$word"))
            return
            ;;
    esac
    local words
    words=$(rowcast complete "${COMP_WORDS[@]:1:COMP_CWORD-1}" 2>/dev/null)
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o default -F _rowcast rowcast
