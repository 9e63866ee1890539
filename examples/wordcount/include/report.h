#ifndef REPORT_H
#define REPORT_H

#include "table.h"

/* Prints the `most` most frequent words and the totals. */
void report(const struct table *table, size_t most);

#endif
