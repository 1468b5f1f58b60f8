-- The keeper of an account's quota: one call is one host's ask and its answer.
-- docs/cluster.md has the rules, coordinator/cluster/wire.h the words.
--
-- Everything is read before anything is written: a key that is not ours ends
-- the call with an error and changes nothing.  Times are microseconds; doubles
-- hold them exactly.  Stored with cmsgpack, since cjson would round them.

local function read(key)
	local reply = redis.pcall('HGETALL', key)
	if reply.err then
		return nil, 'RGOV ' .. key .. ' is not a key of rgov: ' .. reply.err
	end
	local fields = {}
	for i = 1, #reply, 2 do
		local ok, value = pcall(cmsgpack.unpack, reply[i + 1])
		if not ok or type(value) ~= 'table' then
			return nil, 'RGOV field ' .. reply[i] .. ' of ' .. key ..
				' was not written by rgov'
		end
		fields[reply[i]] = value
	end
	return fields
end

local function store(key, field, value)
	redis.call('HSET', key, field, cmsgpack.pack(value))
end

-- ------------------------------------------------------------- the ask's head

local now = tonumber(ARGV[1])
if not now then
	local time = redis.call('TIME')
	now = time[1] * 1000000 + time[2]
end
local run, host = ARGV[2], 'h:' .. ARGV[3]
local incarnation, seq = tonumber(ARGV[4]), tonumber(ARGV[5])
local epoch, before = tonumber(ARGV[6]), tonumber(ARGV[7])
local ttl, window, slot = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local minute, forget = tonumber(ARGV[11]), tonumber(ARGV[12])
local hosts, loss = tonumber(ARGV[13]), ARGV[14]
local is_lost, is_complete, is_leaving =
	ARGV[15] == '1', ARGV[16] == '1', ARGV[17] == '1'
local HEAD, WORDS = 17, 10
local slack = window / 4
local expiry = math.ceil((2 * window + forget) / 1000)
local GRANTED, PENDING, SYNC, NAMESAKE = 0, 1, 2, 3

local members, bad = read(KEYS[1])
if bad then
	return redis.error_reply(bad)
end
local limits = {}
for i = 2, #KEYS do
	limits[i], bad = read(KEYS[i])
	if bad then
		return redis.error_reply(bad)
	end
end

-- ------------------------------------------------------- birth, who is there

local birth = members['@birth']
if not birth or birth.run ~= run then
	-- An epoch is called by its time, never the same twice.
	local last = birth and birth.epoch or 0
	birth = {run = run, epoch = math.max(now, last + 1), born = now}
	members = {}
	redis.call('DEL', KEYS[1])
	store(KEYS[1], '@birth', birth)
	redis.call('PEXPIRE', KEYS[1], expiry)
end

local function count_hosts()
	local known, present, complete = 0, 0, 0
	for name, member in pairs(members) do
		if name ~= '@birth' then
			known = known + 1
			complete = complete + (member.complete and 1 or 0)
			if member.til > now and not member.left then
				present = present + 1
			end
		end
	end
	return known, present, complete
end

local function head(status)
	local _, present = count_hosts()
	return {seq, status, now, birth.epoch, present}
end

if epoch ~= birth.epoch or now > before then
	return head(SYNC)
end
local me = members[host]
if me and me.incarnation > incarnation and me.til > now and not me.left then
	return head(NAMESAKE)
end
if me and me.incarnation == incarnation and me.seq >= seq then
	return head(SYNC)
end
for _, member in pairs(members) do
	-- Redis' clock may have been set back.
	member.til = member.til and math.min(member.til, now + window / 2)
end
-- A former run of this host that may have lived by its share: what it did then
-- was never told.
local may_have_shared = loss == 'share' and not is_complete and
	(not me and now < birth.born + forget or
	me and me.incarnation ~= incarnation and not me.left and
		(me.lost or me.til <= now))
members[host] = {incarnation = incarnation, seq = seq, til = now + ttl,
	lost = is_lost, left = is_leaving, loss = loss,
	complete = is_complete}
store(KEYS[1], host, members[host])
for name, member in pairs(members) do
	if name ~= '@birth' and member.til + forget <= now then
		members[name] = nil
		redis.call('HDEL', KEYS[1], name)
	end
end
local known, _, complete = count_hosts()
local is_open = (hosts > 0 and complete >= hosts) or
	now >= birth.born + window + slack + 3 * ttl
if is_open and not birth.open then
	birth.open = now
	store(KEYS[1], '@birth', birth)
end
is_open = birth.open ~= nil
redis.call('PEXPIRE', KEYS[1], expiry)

-- Lives by on_cluster_loss, or may: a share is kept for it.
local function is_away(member)
	return member.loss == 'share' and not member.left and
		(member.lost or member.til <= now)
end

-- Hosts that were not heard of since the birth, and may live by their share.
local unheard = 0
if loss == 'share' and now < birth.born + forget then
	unheard = math.max(0, hosts - known)
end

-- The level to which `free` lifts the uses of those that want something.
local function water_level(free, wanters)
	local low, high = math.huge, 0
	for _, each in ipairs(wanters) do
		low = math.min(low, each.use)
		high = math.max(high, each.use + each.want)
	end
	while high - low > 0.001 do
		local middle, sum = (low + high) / 2, 0
		for _, each in ipairs(wanters) do
			sum = sum + math.max(0,
				math.min(middle - each.use, each.want))
		end
		if sum > free then
			high = middle
		else
			low = middle
		end
	end
	return low
end

-- What one of them gets of `free`.
local function portion(level, each)
	return math.min(each.want, math.max(0, math.ceil(level - each.use)))
end

-- ---------------------------------------------------------------------- starts

-- Calls see(time it leaves the window, how many) for what was started.
local function each_start(record, see)
	for i = 1, #record.ages, 2 do
		see(record.at - record.ages[i] * slot + window, record.ages[i + 1])
	end
	for i = 1, #record.former, 2 do
		see(record.former[i] + window, record.former[i + 1])
	end
end

-- Its starts in the window and what it holds: silent, it may have used that as
-- late as `slack` after its end.
local function count(record)
	local n = 0
	each_start(record, function(leaves, starts)
		if leaves > now then
			n = n + starts
		end
	end)
	if now < record.til + slack + window then
		n = n + record.held
	end
	return n
end

local function share_of(limit)
	return hosts > 0 and math.floor(limit / hosts) or 0
end

local function weight(name, record, share)
	local member, n = members[name], count(record)
	if not member or member.left or member.loss ~= 'share' then
		return n
	end
	return math.max(n, is_away(member) and share or record.keep)
end

-- What a former run has started, where the new one does not know it.
local function inherit(was, share)
	local stamps, former, n = {}, {}, 0
	if was and was.incarnation == incarnation then
		stamps = was.former
	elseif was and not is_complete then
		stamps = {now, was.held}
		each_start(was, function(leaves, starts)
			stamps[#stamps + 1] = leaves - window
			stamps[#stamps + 1] = starts
		end)
	end
	for i = 1, #stamps, 2 do
		if stamps[i] + window > now and stamps[i + 1] > 0 then
			former[#former + 1] = stamps[i]
			former[#former + 1] = stamps[i + 1]
			n = n + stamps[i + 1]
		end
	end
	if may_have_shared and n < share then
		former[#former + 1] = now
		former[#former + 1] = share - n
	end
	return former
end

-- More starts for this host (below 0: fewer), what others have, and when the
-- next of theirs leaves.
local function grant_starts(limit, records, mine)
	local share = share_of(limit)
	local others, next_leave = unheard * share, math.huge
	local own = count(mine)
	local wanters = {{use = own, want = mine.want}}
	for name, record in pairs(records) do
		if name ~= host then
			others = others + weight(name, record, share)
			each_start(record, function(leaves)
				if leaves > now then
					next_leave = math.min(next_leave, leaves)
				end
			end)
			local member = members[name]
			if record.want > 0 and record.til > now and member and
				member.til > now then
				wanters[#wanters + 1] =
					{use = count(record), want = record.want}
			end
		end
	end
	for name, member in pairs(members) do
		if name ~= '@birth' and name ~= host and not records[name] and
			is_away(member) then
			others = others + share
		end
	end
	local free, grant = limit - others - own, 0
	if free < 0 then
		grant = math.max(free, -mine.held)
	elseif is_open and mine.want > 0 then
		grant = math.min(free,
			portion(water_level(free, wanters), wanters[1]))
	end
	mine.keep = 0
	if mine.want > 0 or mine.held > 0 then
		mine.keep = math.min(own + math.max(grant, 0), share)
	end
	if grant > 0 then
		mine.held = mine.held + grant
		mine.want = mine.want - grant
	end
	return grant, others,
		next_leave < math.huge and math.ceil(next_leave - now) or 0
end

-- ---------------------------------------------------------------------- tokens

local function faded(record)
	return record.use * math.exp(-math.max(0, now - record.used_at) / minute)
end

-- What it has spent since its last ask; what the bucket already gave up for it
-- is not taken twice.
local function spent_since(was, mine)
	if not was then
		return 0
	end
	if was.incarnation ~= incarnation or was.life ~= mine.life then
		return was.tokens_held
	end
	local spent = mine.spent - was.spent
	if spent > 0 then
		spent = math.max(0, spent - was.taken)
	end
	if is_lost then
		-- The rest of what it held is in its own bucket now.
		spent = math.max(spent, was.tokens_held)
	end
	return spent
end

local function refill(bucket, limit, absent)
	local part = hosts > 0 and math.max(0, 1 - absent / hosts) or 1
	local most = limit * part
	if not is_open then
		bucket.level, bucket.at = math.min(bucket.level, 0), now
	end
	bucket.level = math.min(most, bucket.level +
		math.max(0, now - bucket.at) * most / minute)
	bucket.at = now
	return most
end

local function absent_hosts()
	local n = unheard
	for name, member in pairs(members) do
		if name ~= '@birth' and is_away(member) then
			n = n + 1
		end
	end
	return n
end

-- More tokens, what others hold, and when what is needed may be there.
local function grant_tokens(key, limit, records, bucket, was, mine)
	local most = refill(bucket, limit, absent_hosts())
	local spent = spent_since(was, mine)
	bucket.level = bucket.level - spent
	mine.use = math.max(0, (was and faded(was) or 0) + spent)
	local others, wanters = 0, {}
	for name, record in pairs(records) do
		local member = members[name]
		if name ~= host then
			if record.tokens_held > 0 and
				(not member or member.til <= now) then
				-- It is silent: it has them.
				record.taken = record.tokens_held
				record.tokens_held = 0
				bucket.level = bucket.level - record.taken
				store(key, name, record)
			end
			others = others + record.tokens_held
			if record.tokens_want > 0 and member and
				member.til > now and record.til > now and
				record.need <= most then
				wanters[#wanters + 1] = {
					use = faded(record) + record.tokens_held,
					want = record.tokens_want,
					need = record.need, name = name}
			end
		end
	end
	local self = {use = mine.use + mine.tokens_held, name = host,
		want = mine.tokens_want, need = mine.need}
	wanters[#wanters + 1] = self
	local free, grant = bucket.level - others - mine.tokens_held, 0
	if is_open and self.want > 0 and free >= 1 then
		local level = water_level(free, wanters)
		local left = free
		for _, each in ipairs(wanters) do
			each.gets = portion(level, each)
			if each.gets > 0 then
				each.gets = math.max(each.gets, each.need)
			end
			if each.use < self.use or
				(each.use == self.use and each.name < self.name) then
				left = left - each.gets
			end
		end
		if self.need <= left then
			grant = math.max(0, math.floor(math.min(self.gets, left)))
		end
	end
	mine.tokens_held = mine.tokens_held + grant
	mine.tokens_want = math.max(0, mine.tokens_want - grant)
	local short = math.max(mine.need, 1) - (free - grant)
	return grant, others, short > 0 and most > 0 and
		math.ceil(short * minute / most) or 0
end

-- -------------------------------------------------------------------- the rows

local function parse_ages(text)
	local ages = {}
	for age, starts in string.gmatch(text, '(%d+):(%d+)') do
		ages[#ages + 1] = tonumber(age)
		ages[#ages + 1] = tonumber(starts)
	end
	return ages
end

local answer = head(is_open and GRANTED or PENDING)
for i = 2, #KEYS do
	local key, fields = KEYS[i], limits[i]
	local word = HEAD + (i - 2) * WORDS
	local records = {}
	for name, record in pairs(fields) do
		local is_record = name ~= '@bucket'
		if record.epoch ~= birth.epoch then
			redis.call('HDEL', key, name)
			fields[name] = nil
		elseif is_record and not members[name] and name ~= host and
			record.tokens_held == 0 and count(record) == 0 then
			redis.call('HDEL', key, name)
		elseif is_record then
			-- Redis' clock was set back.
			record.at = math.min(record.at, now)
			record.til = math.min(record.til, now + window / 2)
			records[name] = record
		end
	end
	local was = records[host]
	local starts_limit, tokens_limit =
		tonumber(ARGV[word + 2]), tonumber(ARGV[word + 6])
	local mine = {epoch = birth.epoch, incarnation = incarnation,
		life = tonumber(ARGV[word + 1]), at = now, til = now + ttl,
		ages = parse_ages(ARGV[word + 3]), former = inherit(was, share_of(starts_limit)),
		held = tonumber(ARGV[word + 4]), want = tonumber(ARGV[word + 5]),
		keep = 0, spent = tonumber(ARGV[word + 7]),
		tokens_held = tonumber(ARGV[word + 8]),
		tokens_want = tonumber(ARGV[word + 9]),
		need = tonumber(ARGV[word + 10]), taken = 0, use = 0,
		used_at = now}
	local starts, others, leaves = 0, 0, 0
	local tokens, tokens_others, refilled = 0, 0, 0
	local bucket = fields['@bucket'] or
		{epoch = birth.epoch, level = 0, at = birth.open or now}
	records[host] = mine
	if starts_limit > 0 then
		starts, others, leaves =
			grant_starts(starts_limit, records, mine)
	end
	if tokens_limit > 0 then
		tokens, tokens_others, refilled = grant_tokens(
			key, tokens_limit, records, bucket, was, mine)
		store(key, '@bucket', bucket)
	end
	store(key, host, mine)
	redis.call('PEXPIRE', key, expiry)
	if is_open then
		if leaves == 0 or (refilled > 0 and refilled < leaves) then
			leaves = refilled
		end
		for _, number in ipairs({starts, tokens, others, tokens_others,
			math.floor(bucket.level), leaves}) do
			answer[#answer + 1] = number
		end
	end
end
return answer
