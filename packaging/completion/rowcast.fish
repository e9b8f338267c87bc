# fish completion for rowcast
function __rowcast_complete
    rowcast complete (commandline -opc)[2..-1] 2>/dev/null
end
complete -c rowcast -f -a '(__rowcast_complete)'
complete -c rowcast -s c -l config-file -r -F
complete -c rowcast -l token-file -r -F
