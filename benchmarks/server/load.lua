-- For wrk: asks the targets of a file (one a line) in turn, and tells what came back as JSON.
--
--     wrk ... -s load.lua http://HOST:PORT -- TARGETS [snapshots]
--
-- With `snapshots` it also tells which snapshots the answers came from.

local targets, last = {}, 0
local threads = {}
seen = ""

function setup(thread)
    table.insert(threads, thread)
end

function init(args)
    for line in io.lines(args[1]) do
        table.insert(targets, line)
    end
    if args[2] == "snapshots" then
        local known = {}
        response = function(_, headers)
            local snapshot = headers["prunelake-snapshot"] or "none"
            if not known[snapshot] then
                known[snapshot] = true
                seen = seen .. snapshot .. " "
            end
        end
    end
end

function request()
    last = last % #targets + 1
    return wrk.format("GET", targets[last])
end

function done(summary, latency)
    local errors = summary.errors
    local all_seen = ""
    for _, thread in ipairs(threads) do
        all_seen = all_seen .. thread:get("seen")
    end
    io.write(string.format(
        '\nRESULT {"requests": %d, "seconds": %f, "p50": %f, "p95": %f, "p99": %f, ' ..
        '"status_errors": %d, "socket_errors": %d, "snapshots": "%s"}\n',
        summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
        latency:percentile(95) / 1e3, latency:percentile(99) / 1e3, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout, all_seen))
end
