/* The Authorization header of Signature Version 4, cut into its parts. */
#include "tools/bedrock-sim/authorization.h"

#include <stdlib.h>
#include <string.h>

#include "tools/bedrock-sim/memory.h"

/* "KEY/DAY/REGION/SERVICE/aws4_request" */
static bool scope_split(char *scope, struct authorization *parts)
{
	const char **targets[] = {&parts->access_key, &parts->day,
		&parts->region, &parts->service, &parts->terminator};
	size_t n = sizeof(targets) / sizeof(*targets);

	for (size_t i = 0; i < n; i++) {
		*targets[i] = strsep(&scope, "/");
		if (*targets[i] == NULL || **targets[i] == '\0')
			return false;
	}
	return scope == NULL;
}

/* One "Name=value" of the header; a name twice or unknown is malformed. */
static bool component_take(char *word, struct authorization *parts)
{
	char *value = strchr(word, '=');

	if (value == NULL)
		return false;
	*value++ = '\0';
	if (strcmp(word, "Credential") == 0)
		return parts->access_key == NULL && scope_split(value, parts);
	if (strcmp(word, "SignedHeaders") == 0 && parts->signed_headers == NULL)
		parts->signed_headers = value;
	else if (strcmp(word, "Signature") == 0 && parts->signature == NULL)
		parts->signature = value;
	else
		return false;
	return true;
}

bool authorization_parse(const char *text, struct authorization *ret)
{
	char *rest = memory_text(text + strlen(SIGV4_ALGORITHM " "));

	*ret = (struct authorization){.copy = rest};
	while (rest != NULL) {
		char *word = strsep(&rest, ",");

		word += strspn(word, " \t");
		word[strcspn(word, " \t")] = '\0';
		if (!component_take(word, ret))
			return false;
	}
	return ret->access_key != NULL && ret->signed_headers != NULL &&
	       ret->signature != NULL;
}

bool authorization_list_is_canonical(
	const char *list, const struct headers *headers)
{
	char previous[128] = "", name[128];

	do {
		size_t length = strcspn(list, ";");

		if (length == 0 || length >= sizeof(name))
			return false;
		memcpy(name, list, length);
		name[length] = '\0';
		for (size_t i = 0; i < length; i++)
			if (name[i] >= 'A' && name[i] <= 'Z')
				return false;
		if (strcmp(previous, name) >= 0 ||
			headers_count(headers, name) == 0)
			return false;
		memcpy(previous, name, length + 1);
		list += length;
	} while (*list++ == ';');
	return true;
}
