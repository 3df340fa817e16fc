-- For the joined script, as `make check` reads it. Redis runs Lua 5.1 and gives it these globals.
std = "lua51"
read_globals = { "redis", "KEYS", "ARGV" }
max_line_length = 100
