#ifndef TABLE_H
#define TABLE_H

#include <stddef.h>

struct entry {
    char *word;
    size_t count;
};

/* A hash table of words and how often each was seen. */
struct table {
    struct entry *entries;
    size_t capacity; /* a power of two */
    size_t used;
    size_t total; /* all words, each as often as it was seen */
};

void table_init(struct table *table);
void table_add(struct table *table, const char *word);
void table_free(struct table *table);

/* The entries, most frequent first, then by word; `used` of them, to be freed by the caller. */
struct entry *table_sorted(const struct table *table);

#endif
