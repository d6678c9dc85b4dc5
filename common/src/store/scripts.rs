//! The few steps that must happen in Redis as one, as Lua. Each is idempotent: a timed-out call may still run.

use redis::Script;
use std::sync::LazyLock;

/// Puts a staged table in force. KEYS: generation, staging, events. ARGV: expected, table prefix, tables kept,
/// events kept, nonce, checksum, cluster, schema, min_reader, by, why, now.
/// Returns `{1, generation}`, or `{0, generation in force, by}` when another publication came first.
pub(super) static PUBLISH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local held = redis.call('HMGET', KEYS[1], 'table', 'nonce', 'by', 'tables')
        local current = tonumber(held[1] or '0')
        if held[2] == ARGV[5] then return {1, string.format('%.0f', current)} end
        if current ~= tonumber(ARGV[1]) then return {0, string.format('%.0f', current), held[3] or ''} end
        local time = redis.call('TIME')
        local new = math.max(current + 1, time[1] * 1000 + math.floor(time[2] / 1000))
        new = string.format('%.0f', new)
        redis.call('RENAME', KEYS[2], ARGV[2] .. new)
        redis.call('PERSIST', ARGV[2] .. new)
        local tables = {}
        for kept in string.gmatch(held[4] or '', '%d+') do tables[#tables + 1] = kept end
        tables[#tables + 1] = new
        while #tables > tonumber(ARGV[3]) do redis.call('DEL', ARGV[2] .. table.remove(tables, 1)) end
        redis.call('HSET', KEYS[1], 'table', new, 'tables', table.concat(tables, ' '), 'nonce', ARGV[5],
            'checksum', ARGV[6], 'cluster', ARGV[7], 'schema', ARGV[8], 'min_reader', ARGV[9],
            'by', ARGV[10], 'why', ARGV[11])
        redis.call('HSETNX', KEYS[1], 'overrides', '0')
        redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[4], '*', 'at', ARGV[12], 'by', ARGV[10],
            'what', 'generation ' .. new .. ' published', 'why', ARGV[11])
        return {1, new}
        ",
    )
});

/// Says that a redirector is there. KEYS: replicas, replica. ARGV: id, then the announcement's fields and values.
pub(super) static ANNOUNCE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        redis.call('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
        redis.call('HSET', KEYS[2], unpack(ARGV, 2))
        return 1
        ",
    )
});

/// Sets or clears an override and counts the overrides' generation on. KEYS: generation, overrides, events.
/// ARGV: server, JSON or empty, events kept, at, by, what, why.
pub(super) static OVERRIDE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local ms = time[1] * 1000 + math.floor(time[2] / 1000)
        local current = tonumber(redis.call('HGET', KEYS[1], 'overrides') or '0')
        if ARGV[2] == '' then redis.call('HDEL', KEYS[2], ARGV[1]) else redis.call('HSET', KEYS[2], ARGV[1], ARGV[2]) end
        redis.call('HSET', KEYS[1], 'overrides', string.format('%.0f', math.max(current + 1, ms)))
        redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[3], '*', 'at', ARGV[4], 'by', ARGV[5], 'what', ARGV[6], 'why', ARGV[7])
        return 1
        ",
    )
});
