//! The few steps that must happen in Redis as one, as Lua. Each is idempotent: a timed-out call may still run.

use redis::Script;
use std::sync::LazyLock;

/// Puts a staged table in force. KEYS: generation, staging, events, tables, overrides. ARGV: expected, table prefix,
/// tables kept, events kept, nonce, checksum, cluster, schema, min_reader, by, why, now, forced, farms, reset, edition,
/// hint channel.
/// Returns `{1, generation}`; `{2, generation in force, by, own generation}` when it was put in force before and has
/// been replaced since; `{0, generation in force, by}` when another publication came first.
pub(super) static PUBLISH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local held = redis.call('HMGET', KEYS[1], 'table', 'nonce', 'by', 'tables')
        local current = tonumber(held[1] or '0')
        local in_force = string.format('%.0f', current)
        if held[2] == ARGV[5] or current ~= tonumber(ARGV[1]) then
            redis.call('DEL', KEYS[2])
            if held[2] == ARGV[5] then return {1, in_force} end
            local editions = redis.call('HGETALL', KEYS[4])
            for at = 1, #editions, 2 do
                if cjson.decode(editions[at + 1])['nonce'] == ARGV[5] then return {2, in_force, held[3] or '', editions[at]} end
            end
            return {0, in_force, held[3] or ''}
        end
        -- A store that lost the first slices while the last ones came holds zeros in their place.
        if redis.call('GETRANGE', KEYS[2], 0, 0) == '\0' then
            redis.call('DEL', KEYS[2])
            return redis.error_reply('ERR the store lost a part of the table while it was written: apply it again')
        end
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        local new = math.max(current + 1, now)
        new = string.format('%.0f', new)
        redis.call('RENAME', KEYS[2], ARGV[2] .. new)
        redis.call('PERSIST', ARGV[2] .. new)
        local tables = {}
        for kept in string.gmatch(held[4] or '', '%d+') do tables[#tables + 1] = kept end
        tables[#tables + 1] = new
        while #tables > tonumber(ARGV[3]) do
            local oldest = table.remove(tables, 1)
            redis.call('DEL', ARGV[2] .. oldest)
            redis.call('HDEL', KEYS[4], oldest)
        end
        local edition = cjson.decode(ARGV[16])
        edition['at'], edition['table'] = now, tonumber(new)
        redis.call('HSET', KEYS[4], new, cjson.encode(edition))
        redis.call('HSET', KEYS[1], 'table', new, 'tables', table.concat(tables, ' '), 'nonce', ARGV[5],
            'checksum', ARGV[6], 'cluster', ARGV[7], 'schema', ARGV[8], 'min_reader', ARGV[9],
            'by', ARGV[10], 'why', ARGV[11], 'forced', ARGV[13], 'farms', ARGV[14])
        redis.call('HSETNX', KEYS[1], 'overrides', '0')
        if ARGV[15] == '1' and redis.call('DEL', KEYS[5]) == 1 then
            local overrides = math.max(tonumber(redis.call('HGET', KEYS[1], 'overrides')) + 1, now)
            redis.call('HSET', KEYS[1], 'overrides', string.format('%.0f', overrides))
        end
        redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[4], '*', 'at', ARGV[12], 'by', ARGV[10],
            'what', 'generation ' .. new .. ' published', 'why', ARGV[11])
        redis.call('PUBLISH', ARGV[17], '')
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
/// adds nothing. KEYS: base, count, folded, replicas, index of the folded. ARGV: id, the folds the base must have
/// seen, when the redirector spoke last, members. Returns 1; 0 if it has spoken since; -1 if the base has lost folds.
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
        local time = redis.call('TIME')
        redis.call('ZADD', KEYS[5], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
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

/// Notes again that something of a redirector was folded, and lets that expire where it is not listed: one that is may
/// speak again any time. KEYS: replicas, folded, index of the folded. ARGV: id, when it was folded, seconds to keep.
pub(super) static NOTE_FOLDED: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        redis.call('ZADD', KEYS[3], 'GT', ARGV[2], ARGV[1])
        if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then redis.call('EXPIRE', KEYS[2], ARGV[3]) end
        return 1
        ",
    )
});

/// Writes what happened, each event once however often it is told. KEYS: events, the findings of the prober that tells
/// them, where a field that is no check says which were written. ARGV: events kept, the prober's run, the number of the
/// first, then at, by, what, why of each.
pub(super) static EVENTS: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local run, next = string.match(redis.call('HGET', KEYS[2], '@events') or '', '^(%S*) (%d+)$')
        next = run == ARGV[2] and tonumber(next) or 0
        local number = tonumber(ARGV[3])
        for index = 4, #ARGV, 4 do
            if number >= next then
                redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'at', ARGV[index], 'by', ARGV[index + 1],
                    'what', ARGV[index + 2], 'why', ARGV[index + 3])
            end
            number = number + 1
        end
        redis.call('HSET', KEYS[2], '@events', ARGV[2] .. ' ' .. string.format('%.0f', math.max(next, number)))
        return 1
        ",
    )
});

/// Forgets a prober whose sequence still stands where it did. KEYS: probers, its findings, their index. ARGV: id,
/// sequence. A key that expires at once is deleted.
pub(super) static FORGET_PROBER: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local sequence = redis.call('ZSCORE', KEYS[1], ARGV[1])
        if not sequence or tonumber(sequence) ~= tonumber(ARGV[2]) then return 0 end
        redis.call('ZREM', KEYS[1], ARGV[1])
        for key = 2, 3 do redis.call('EXPIRE', KEYS[key], 0) end
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

/// Sets an override over what is set already, or clears it, and counts the overrides' generation on. KEYS:
/// generation, overrides, events. ARGV: server, JSON or empty, events kept, at, by, what, why, hint channel, then the
/// generations of table and overrides that must be in force, where they must. Returns 0 where others are.
pub(super) static OVERRIDE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local ms = time[1] * 1000 + math.floor(time[2] / 1000)
        local held = redis.call('HMGET', KEYS[1], 'table', 'overrides')
        local current = tonumber(held[2] or '0')
        if ARGV[9] and (tonumber(held[1] or '0') ~= tonumber(ARGV[9]) or current ~= tonumber(ARGV[10])) then return 0 end
        if ARGV[2] == '' then
            redis.call('HDEL', KEYS[2], ARGV[1])
        else
            local readable, set = pcall(cjson.decode, redis.call('HGET', KEYS[2], ARGV[1]) or '{}')
            if not readable or type(set) ~= 'table' then set = {} end
            local new = cjson.decode(ARGV[2])
            -- An end belongs to the force it came with.
            if new['force'] then set['until'] = nil end
            for field, value in pairs(new) do set[field] = value end
            redis.call('HSET', KEYS[2], ARGV[1], cjson.encode(set))
        end
        redis.call('HSET', KEYS[1], 'overrides', string.format('%.0f', math.max(current + 1, ms)))
        redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[3], '*', 'at', ARGV[4], 'by', ARGV[5], 'what', ARGV[6], 'why', ARGV[7])
        redis.call('PUBLISH', ARGV[8], '')
        return 1
        ",
    )
});
