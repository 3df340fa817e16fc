-- One call, one command. --------------------------------------------------------------------------

return commands[ARGV[1]](unpack(ARGV, 2))
