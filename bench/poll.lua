-- Asks monitors in turn, so that no single operation is in everybody's cache. The file
-- that the environment names has one path a line.
local paths = {}
for path in io.lines(os.getenv("MONITORS")) do
  paths[#paths + 1] = path
end
local at = 0

function request()
  at = at % #paths + 1
  return wrk.format("GET", paths[at])
end
