/* Where a traced process has its files mapped, and the symbols in them. */
#include "tests/fault/common/stepper.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* One file of the process: where it begins, and where its code is. */
struct mapped {
	char path[PATH_MAX];
	uintptr_t base;
	uintptr_t text_begin, text_end;
};

/* One line of /proc/PID/maps. */
struct map_line {
	uintptr_t begin, end, offset;
	char access[5];
	char path[PATH_MAX];
};

static bool ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), n_end = strlen(end);

	return n >= n_end && strcmp(text + n - n_end, end) == 0;
}

static bool parse_line(const char *text, struct map_line *ret)
{
	int path_at = 0;

	if (sscanf(text, "%lx-%lx %4s %lx %*s %*s %n", &ret->begin, &ret->end,
		    ret->access, &ret->offset, &path_at) < 4 ||
		path_at == 0)
		return false;
	(void)snprintf(ret->path, sizeof(ret->path), "%s", text + path_at);
	ret->path[strcspn(ret->path, "\n")] = '\0';
	return true;
}

static void note_line(struct mapped *file, const struct map_line *line)
{
	if (file->base == 0) {
		(void)snprintf(
			file->path, sizeof(file->path), "%s", line->path);
		file->base = line->begin - line->offset;
	}
	if (strchr(line->access, 'x') != NULL) {
		if (file->text_begin == 0)
			file->text_begin = line->begin;
		file->text_end = line->end;
	}
}

static int find_file(
	const struct stepper *s, const char *file, struct mapped *ret)
{
	char path[64], own[PATH_MAX], *text = NULL;
	size_t size = 0;
	struct map_line line;
	ssize_t n;
	FILE *maps;

	(void)snprintf(path, sizeof(path), "/proc/%d/exe", stepper_pid(s));
	n = readlink(path, own, sizeof(own) - 1);
	if (n < 0)
		return -errno;
	own[n] = '\0';
	(void)snprintf(path, sizeof(path), "/proc/%d/maps", stepper_pid(s));
	maps = fopen(path, "re");
	if (maps == NULL)
		return -errno;
	*ret = (struct mapped){0};
	while (getline(&text, &size, maps) > 0)
		if (parse_line(text, &line) &&
			ends_with(line.path, file ? file : own))
			note_line(ret, &line);
	free(text);
	(void)fclose(maps);
	return ret->base != 0 ? 0 : -ENOENT;
}

int stepper_text(const struct stepper *s, const char *file,
	uintptr_t *ret_begin, uintptr_t *ret_end)
{
	struct mapped found;
	int rc = find_file(s, file, &found);

	if (rc < 0)
		return rc;
	*ret_begin = found.text_begin;
	*ret_end = found.text_end;
	return 0;
}

/* The address that the file was linked for and that is at its begin. */
static uintptr_t linked_base(const unsigned char *image)
{
	const Elf64_Ehdr *header = (const void *)image;
	const Elf64_Phdr *segment = (const void *)(image + header->e_phoff);

	for (unsigned int i = 0; i < header->e_phnum; i++)
		if (segment[i].p_type == PT_LOAD)
			return segment[i].p_vaddr - segment[i].p_offset;
	return 0;
}

static int search_table(const unsigned char *image, const Elf64_Shdr *sections,
	const Elf64_Shdr *table, const char *symbol, uintptr_t *ret_value)
{
	const Elf64_Sym *symbols = (const void *)(image + table->sh_offset);
	const char *names =
		(const char *)image + sections[table->sh_link].sh_offset;

	for (size_t i = 0; i < table->sh_size / sizeof(*symbols); i++) {
		if (symbols[i].st_shndx == SHN_UNDEF ||
			strcmp(names + symbols[i].st_name, symbol) != 0)
			continue;
		*ret_value = symbols[i].st_value - linked_base(image);
		return 0;
	}
	return -ENOENT;
}

static int search_image(
	const unsigned char *image, const char *symbol, uintptr_t *ret_value)
{
	const Elf64_Ehdr *header = (const void *)image;
	const Elf64_Shdr *sections = (const void *)(image + header->e_shoff);

	for (unsigned int i = 0; i < header->e_shnum; i++)
		if ((sections[i].sh_type == SHT_SYMTAB ||
			    sections[i].sh_type == SHT_DYNSYM) &&
			search_table(image, sections, &sections[i], symbol,
				ret_value) == 0)
			return 0;
	return -ENOENT;
}

/* The symbol's distance from the file's begin. */
static int search_file(
	const char *path, const char *symbol, uintptr_t *ret_value)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = -ENOENT;
	struct stat st;
	void *image;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) != 0) {
		(void)close(fd);
		return -EIO;
	}
	image = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	(void)close(fd);
	if (image == MAP_FAILED)
		return -ENOMEM;
	if ((size_t)st.st_size > sizeof(Elf64_Ehdr) &&
		memcmp(image, ELFMAG, SELFMAG) == 0)
		rc = search_image(image, symbol, ret_value);
	(void)munmap(image, (size_t)st.st_size);
	return rc;
}

int stepper_symbol(const struct stepper *s, const char *file,
	const char *symbol, uintptr_t *ret_address)
{
	struct mapped found;
	uintptr_t value = 0;
	int rc = find_file(s, file, &found);

	if (rc == 0)
		rc = search_file(found.path, symbol, &value);
	if (rc == 0)
		*ret_address = found.base + value;
	return rc;
}
