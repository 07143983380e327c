-- What wrk sends to every target of `benches/runtime`, and how it tells what it measured: one line of JSON.

-- About what an SDK sends.
wrk.method = "POST"
wrk.body = '{"prompt":"what is the weather like in the place where I am going to be tomorrow?"}'
wrk.headers["content-type"] = "application/json"
wrk.headers["x-amzn-bedrock-agentcore-runtime-session-id"] = os.getenv("BENCH_SESSION")

-- Times in microseconds.
function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        '\n{"p50":%d,"p99":%d,"took":%d,"calls":%d,"errors":%d}\n',
        latency:percentile(50), latency:percentile(99), summary.duration, summary.requests,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
