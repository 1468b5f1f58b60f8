/* How a call or a task has ended, as exit code, words and body. */
#ifndef TOOLS_RGOV_ENDING_H
#define TOOLS_RGOV_ENDING_H

#include "tools/rgov/rgov_command.h"

#include "client-lib/rgov.h"

int ending_exit_code(enum rgov_result result, int http_status);
/* A good reply's body to stdout, else words to stderr; the exit code.  The
 * texts of the reply are made harmless: they go to a terminal. */
int ending_print(const struct invocation *invocation, struct rgov_reply *reply);

#endif
