/* What rgovd says of a request, for people and as JSON: rgov why. */
#ifndef TOOLS_RGOV_EXPLAIN_H
#define TOOLS_RGOV_EXPLAIN_H

#include "client-lib/rgov.h"

#include <jansson.h>

/* One line to stdout. */
void explain_print(const struct rgov_explanation *explanation);

/* The same as an object; NULL: no memory. */
json_t *explain_json(const struct rgov_explanation *explanation);

#endif
