//! The few steps that must happen in Redis as one, as Lua. Each is idempotent: a timed-out call may still run.

use redis::Script;
use std::sync::LazyLock;

/// Puts a staged table in force. KEYS: generation, staging, events. ARGV: expected, table prefix, tables kept,
/// events kept, nonce, checksum, cluster, schema, min_reader, by, why, now, hint channel.
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
        redis.call('PUBLISH', ARGV[13], '')
        return {1, new}
        ",
    )
});

/// Says that a redirector is there. KEYS: replicas, replica, count, folded. ARGV: id, then the announcement's fields
/// and values. Returns how many totals the store holds of it. One that was given up and speaks again keeps its totals
/// and what was folded of them.
pub(super) static ANNOUNCE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local new = redis.call('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
        redis.call('HSET', KEYS[2], unpack(ARGV, 2))
        if new == 1 then
            for key = 2, 4 do redis.call('PERSIST', KEYS[key]) end
        end
        return redis.call('ZCARD', KEYS[3])
        ",
    )
});

/// Folds some of a gone redirector's totals into the base, each by what was not folded of it before: run twice, it
/// adds nothing. KEYS: base, count, folded, replicas. ARGV: id, the folds the base must have seen, when the
/// redirector spoke last, members. Returns 1; 0 if it has spoken since; -1 if the base has lost folds.
pub(super) static FOLD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local folds = tonumber(redis.call('ZSCORE', KEYS[1], '@folds') or '0')
        if folds < tonumber(ARGV[2]) then return -1 end
        local spoke = redis.call('ZSCORE', KEYS[4], ARGV[1])
        if not spoke or tonumber(spoke) ~= tonumber(ARGV[3]) then return 0 end
        for index = 4, #ARGV do
            local total = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[index]) or '0')
            local folded = tonumber(redis.call('ZSCORE', KEYS[3], ARGV[index]) or '0')
            if total > folded then
                redis.call('ZINCRBY', KEYS[1], string.format('%.0f', total - folded), ARGV[index])
                redis.call('ZADD', KEYS[3], string.format('%.0f', total), ARGV[index])
            end
        end
        redis.call('ZINCRBY', KEYS[1], 1, '@folds')
        return 1
        ",
    )
});

/// Takes a folded redirector off the list; its keys stay for a while, so that late writes count nothing twice.
/// KEYS: replicas, replica, count, folded. ARGV: id, when it spoke last, seconds to keep. Returns 0 if it has spoken.
pub(super) static RETIRE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local spoke = redis.call('ZSCORE', KEYS[1], ARGV[1])
        if not spoke or tonumber(spoke) ~= tonumber(ARGV[2]) then return 0 end
        redis.call('ZREM', KEYS[1], ARGV[1])
        for key = 2, 4 do redis.call('EXPIRE', KEYS[key], ARGV[3]) end
        return 1
        ",
    )
});

/// Lists a redirector again that a store has lost. KEYS: replicas. ARGV: id.
pub(super) static RELIST: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        return redis.call('ZADD', KEYS[1], 'NX', time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
        ",
    )
});

/// Sets or clears an override and counts the overrides' generation on. KEYS: generation, overrides, events.
/// ARGV: server, JSON or empty, events kept, at, by, what, why, hint channel.
pub(super) static OVERRIDE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local ms = time[1] * 1000 + math.floor(time[2] / 1000)
        local current = tonumber(redis.call('HGET', KEYS[1], 'overrides') or '0')
        if ARGV[2] == '' then redis.call('HDEL', KEYS[2], ARGV[1]) else redis.call('HSET', KEYS[2], ARGV[1], ARGV[2]) end
        redis.call('HSET', KEYS[1], 'overrides', string.format('%.0f', math.max(current + 1, ms)))
        redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[3], '*', 'at', ARGV[4], 'by', ARGV[5], 'what', ARGV[6], 'why', ARGV[7])
        redis.call('PUBLISH', ARGV[8], '')
        return 1
        ",
    )
});
