-- What Lua programs do: each part prints its name when it has worked.
assert(tonumber(io.popen('echo 2'):read()) == 2 and os.execute('exit 0'))
print('processes')
local file = assert(io.open('f', 'w')); file:write('x'); file:close()
assert(io.open('f'):read() == 'x' and os.rename('f', 'g') and os.remove('g') and os.tmpname())
print('files')
local routine = coroutine.wrap(function() coroutine.yield(1) return 2 end)
assert(routine() + routine() == 3); collectgarbage()
print('library')
