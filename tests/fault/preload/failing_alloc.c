/*
 * Fails the Nth allocation of a process, counted from the moment it is told to,
 * and counts what is allocated.  Told and asked through the file that
 * FAILING_ALLOC names, which both sides map: struct control.
 *
 *     LD_PRELOAD=failing_alloc.so FAILING_ALLOC=/path rgovd ...
 *
 * glibc's own functions (strdup, asprintf, reallocarray, fopen) allocate
 * through these as well.
 */
#pragma GCC visibility push(default)
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* glibc's, under the names that nobody replaces. */
extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t n, size_t bytes);
extern void *__libc_realloc(void *old, size_t bytes);
extern void *__libc_memalign(size_t align, size_t bytes);
extern void __libc_free(void *memory);
extern void *memalign(size_t align, size_t bytes);

struct control {
	_Atomic uint64_t nth;    /* fail this one; 0: none, and count none */
	_Atomic uint64_t last;   /* ... up to this one */
	_Atomic uint64_t count;  /* since nth was set */
	_Atomic uint64_t failed; /* how many were failed */
	_Atomic int64_t live;    /* blocks that are allocated */
	_Atomic uint64_t caller; /* offset in its object, of the failed one */
};

/* Until the file is there, and where there is none. */
static struct control nobodys;
static struct control *control = &nobodys;

/* What a child has, it has from its parent: its calls fail as they come, but
 * its blocks are not counted. */
static int is_child;

static void after_fork(void)
{
	is_child = 1;
}

__attribute__((constructor)) static void map_control(void)
{
	const char *path = getenv("FAILING_ALLOC");
	int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *base = MAP_FAILED;

	if (fd >= 0)
		base = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE,
			MAP_SHARED, fd, 0);
	if (fd >= 0)
		(void)close(fd);
	if (base != MAP_FAILED)
		control = base;
	(void)pthread_atfork(NULL, NULL, after_fork);
}

static int must_fail(const void *caller)
{
	uint64_t nth = atomic_load(&control->nth);
	uint64_t count;

	if (nth == 0)
		return 0;
	count = atomic_fetch_add(&control->count, 1) + 1;
	if (count < nth || count > atomic_load(&control->last))
		return 0;
	if (atomic_fetch_add(&control->failed, 1) == 0)
		atomic_store(&control->caller, (uintptr_t)caller);
	errno = ENOMEM;
	return 1;
}

static void *counted(void *memory)
{
	if (memory != NULL && !is_child)
		atomic_fetch_add(&control->live, 1);
	return memory;
}

#define CALLER __builtin_return_address(0)

void *malloc(size_t bytes)
{
	return must_fail(CALLER) ? NULL : counted(__libc_malloc(bytes));
}

void *calloc(size_t n, size_t bytes)
{
	return must_fail(CALLER) ? NULL : counted(__libc_calloc(n, bytes));
}

void *realloc(void *old, size_t bytes)
{
	if (old == NULL)
		return must_fail(CALLER) ? NULL : counted(__libc_malloc(bytes));
	if (bytes == 0) {
		free(old);
		return NULL;
	}
	return must_fail(CALLER) ? NULL : __libc_realloc(old, bytes);
}

void *memalign(size_t align, size_t bytes)
{
	return must_fail(CALLER) ? NULL
				 : counted(__libc_memalign(align, bytes));
}

void *aligned_alloc(size_t align, size_t bytes)
{
	return must_fail(CALLER) ? NULL
				 : counted(__libc_memalign(align, bytes));
}

int posix_memalign(void **ret, size_t align, size_t bytes)
{
	void *memory = must_fail(CALLER)
			       ? NULL
			       : counted(__libc_memalign(align, bytes));

	if (memory == NULL)
		return ENOMEM;
	*ret = memory;
	return 0;
}

void free(void *memory)
{
	if (memory != NULL && !is_child)
		atomic_fetch_sub(&control->live, 1);
	__libc_free(memory);
}
