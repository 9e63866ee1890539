#include "report.h"

#include <stdio.h>
#include <stdlib.h>

void report(const struct table *table, size_t most) {
    struct entry *sorted = table_sorted(table);
    for (size_t i = 0; i < table->used && i < most; i++)
        printf("%6zu  %s\n", sorted[i].count, sorted[i].word);
    printf("%6zu  words, %zu different\n", table->total, table->used);
    free(sorted);
}
