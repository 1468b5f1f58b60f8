#include "tools/rgov-top/format.h"

#include <math.h>
#include <stdio.h>

void format_span(double seconds, char ret_text[FORMAT_BYTES])
{
	const char *sign = seconds < 0 ? "-" : "";
	double s = fabs(seconds);
	unsigned long whole = s < 1e9 ? (unsigned long)s : 999999999;

	if (s < 0.0005)
		(void)snprintf(ret_text, FORMAT_BYTES, "0s");
	else if (s < 0.0995)
		(void)snprintf(
			ret_text, FORMAT_BYTES, "%s%.0fms", sign, s * 1e3);
	else if (s < 9.95)
		(void)snprintf(ret_text, FORMAT_BYTES, "%s%.1fs", sign, s);
	else if (s < 60)
		(void)snprintf(ret_text, FORMAT_BYTES, "%s%lus", sign, whole);
	else if (s < 3600)
		(void)snprintf(ret_text, FORMAT_BYTES, "%s%lum%02lus", sign,
			whole / 60, whole % 60);
	else if (s < 86400)
		(void)snprintf(ret_text, FORMAT_BYTES, "%s%luh%02lum", sign,
			whole / 3600, whole / 60 % 60);
	else
		(void)snprintf(ret_text, FORMAT_BYTES, "%s%lud%02luh", sign,
			whole / 86400, whole / 3600 % 24);
}

void format_count(double count, char ret_text[FORMAT_BYTES])
{
	static const char units[] = " kMGTPE";
	int unit = 0;

	if (!isfinite(count)) {
		(void)snprintf(ret_text, FORMAT_BYTES, "?");
		return;
	}
	if (fabs(count) < 9999.5) {
		(void)snprintf(ret_text, FORMAT_BYTES, "%.0f", count);
		return;
	}
	while (fabs(count) >= 999.95 && units[unit + 1] != '\0') {
		count /= 1000;
		unit++;
	}
	if (fabs(count) > 9999) /* beyond all units */
		(void)snprintf(ret_text, FORMAT_BYTES, "?");
	else
		(void)snprintf(
			ret_text, FORMAT_BYTES, "%.1f%c", count, units[unit]);
}

void format_limit(uint64_t limit, char ret_text[FORMAT_BYTES])
{
	if (limit == 0)
		(void)snprintf(ret_text, FORMAT_BYTES, "-");
	else
		format_count((double)limit, ret_text);
}
