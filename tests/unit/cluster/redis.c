/* A redis-server of the test's own. */
#include "tests/unit/cluster/world.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void serve(const char *path)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (freopen("/dev/null", "w", stdout) == NULL)
		_exit(127);
	(void)execlp("redis-server", "redis-server", "--port", "0", "--save",
		"", "--appendonly", "no", "--unixsocket", path, (char *)NULL);
	_exit(127);
}

static bool connect_to(struct redis_rig *rig, const char *path)
{
	for (int i = 0; i < 1000; i++) {
		int status;

		rig->context = redisConnectUnix(path);
		if (rig->context != NULL && rig->context->err == 0)
			return true;
		redisFree(rig->context);
		rig->context = NULL;
		if (waitpid(rig->pid, &status, WNOHANG) == rig->pid)
			return false;
		(void)usleep(10000);
	}
	return false;
}

bool redis_start(struct redis_rig *rig)
{
	char path[96];
	redisReply *reply;

	*rig = (struct redis_rig){.dir = "/tmp/rgov-redis-XXXXXX"};
	if (mkdtemp(rig->dir) == NULL)
		return false;
	(void)snprintf(path, sizeof(path), "%s/s", rig->dir);
	(void)fflush(stdout);
	rig->pid = fork();
	if (rig->pid == 0)
		serve(path);
	if (rig->pid < 0 || !connect_to(rig, path)) {
		(void)rmdir(rig->dir);
		return false;
	}
	reply = redisCommand(rig->context, "SCRIPT LOAD %s", wire_script);
	if (reply == NULL || reply->type != REDIS_REPLY_STRING) {
		printf("# lease.lua: %s\n", reply ? reply->str : "no answer");
		abort();
	}
	(void)snprintf(rig->sha, sizeof(rig->sha), "%s", reply->str);
	freeReplyObject(reply);
	return true;
}

void redis_stop(struct redis_rig *rig)
{
	char path[96];
	int status;

	redisFree(rig->context);
	(void)kill(rig->pid, SIGKILL);
	(void)waitpid(rig->pid, &status, 0);
	(void)snprintf(path, sizeof(path), "%s/s", rig->dir);
	(void)unlink(path);
	(void)rmdir(rig->dir);
}

long long redis_number(struct redis_rig *rig, const char *command)
{
	redisReply *reply = redisCommand(rig->context, command);
	long long number =
		reply->type == REDIS_REPLY_INTEGER ? reply->integer : -1;

	freeReplyObject(reply);
	return number;
}

static void forget_saved(struct world *world)
{
	for (size_t i = 0; i < world->n_saved; i++)
		free((void *)(uintptr_t)world->saved[i]);
	world->n_saved = 0;
}

void world_empty_redis(struct world *world)
{
	freeReplyObject(redisCommand(world->redis->context, "FLUSHALL"));
	world->run++;
}

void world_save(struct world *world)
{
	redisReply *keys = redisCommand(world->redis->context, "KEYS *");

	forget_saved(world);
	for (size_t i = 0; i < keys->elements && i < 64; i++) {
		redisReply *dump = redisCommand(world->redis->context,
			"DUMP %s", keys->element[i]->str);
		char *copy = malloc(dump->len);

		memcpy(copy, dump->str, dump->len);
		world->saved[i] = copy;
		world->saved_lengths[i] = dump->len;
		(void)snprintf(world->saved_keys[i],
			sizeof(world->saved_keys[i]), "%s",
			keys->element[i]->str);
		world->n_saved++;
		freeReplyObject(dump);
	}
	freeReplyObject(keys);
}

/* As a server that was restarted from an older file. */
void world_go_back(struct world *world)
{
	world_empty_redis(world);
	for (size_t i = 0; i < world->n_saved; i++)
		freeReplyObject(redisCommand(world->redis->context,
			"RESTORE %s 0 %b", world->saved_keys[i],
			world->saved[i], world->saved_lengths[i]));
}

void world_fini(struct world *world)
{
	forget_saved(world);
	for (int i = 0; i < WORLD_HOSTS; i++) {
		host_kill(&world->hosts[i]);
		for (int j = 0; j < WORLD_MESSAGES; j++)
			if (world->hosts[i].messages[j].is_used)
				wire_free(&world->hosts[i].messages[j].words);
		free(world->hosts[i].calls);
		free(world->hosts[i].stamps);
		free(world->hosts[i].stamp_lanes);
	}
	for (int i = 0; i < WORLD_LIMITS; i++)
		free(world->limits[i].stamps);
	freeReplyObject(redisCommand(world->redis->context, "FLUSHALL"));
}
