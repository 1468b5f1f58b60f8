#include "tools/board-view/clean_text.h"

#include <stdbool.h>
#include <string.h>

/* Bytes that follow this first one; -1: it is none. */
static int followers(unsigned char first)
{
	if (first < 0x80)
		return 0;
	if (first >= 0xc2 && first < 0xe0)
		return 1;
	if (first >= 0xe0 && first < 0xf0)
		return 2;
	if (first >= 0xf0 && first < 0xf5)
		return 3;
	return -1;
}

uint32_t text_next(const char **text)
{
	static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
	const unsigned char *at = (const unsigned char *)*text;
	int n = followers(at[0]);
	uint32_t character;

	if (at[0] == '\0')
		return 0;
	*text += 1;
	if (n <= 0)
		return n == 0 ? at[0] : UINT32_MAX;
	character = at[0] & (0x3fu >> n);
	for (int i = 1; i <= n; i++) {
		if ((at[i] & 0xc0) != 0x80) /* also the final zero */
			return UINT32_MAX;
		character = character << 6 | (at[i] & 0x3f);
	}
	if (character < least[n] || character > 0x10ffff ||
		(character >= 0xd800 && character < 0xe000))
		return UINT32_MAX;
	*text += n;
	return character;
}

/* Would it move the cursor, hide itself or turn the line round? */
static bool is_treacherous(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x61c ||
	       (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
	       (c >= 0x2060 && c <= 0x206f) || c == 0xfeff ||
	       (c >= 0xfff0 && c <= 0xfffb) || c >= 0xe0000;
}

void text_clean(char *text, size_t bytes)
{
	const char *at = text;

	text[bytes - 1] = '\0';
	for (;;) {
		const char *from = at;
		uint32_t character = text_next(&at);

		if (character == 0)
			return;
		if (is_treacherous(character))
			memset(text + (from - text), '?', (size_t)(at - from));
	}
}
