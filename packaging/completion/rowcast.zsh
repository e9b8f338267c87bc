#compdef rowcast
# zsh completion for rowcast
case ${words[CURRENT-1]} in
    -c | --config-file | --token-file | --tls-keylog) _files ;;
    *) compadd -- ${(f)"$(rowcast complete ${words[2,CURRENT-1]} 2>/dev/null)"} ;;
esac
