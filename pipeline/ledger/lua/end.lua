-- One call, one command. --------------------------------------------------------------------------

keep_time()
return commands[ARGV[1]](unpack(ARGV, 2))
