#include "table.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 256 };

static void *checked(void *memory) {
    if (memory == NULL) {
        fputs("wordcount: out of memory\n", stderr);
        exit(1);
    }
    return memory;
}

static uint64_t hash(const char *word) {
    uint64_t value = 14695981039346656037u; /* FNV-1a */
    for (; *word; word++)
        value = (value ^ (unsigned char)*word) * 1099511628211u;
    return value;
}

static struct entry *find(struct entry *entries, size_t capacity, const char *word) {
    size_t place = hash(word) & (capacity - 1);
    while (entries[place].word != NULL && strcmp(entries[place].word, word) != 0)
        place = (place + 1) & (capacity - 1);
    return &entries[place];
}

static void grow(struct table *table) {
    size_t capacity = table->capacity * 2;
    struct entry *entries = checked(calloc(capacity, sizeof *entries));
    for (size_t i = 0; i < table->capacity; i++)
        if (table->entries[i].word != NULL)
            *find(entries, capacity, table->entries[i].word) = table->entries[i];
    free(table->entries);
    table->entries = entries;
    table->capacity = capacity;
}

void table_init(struct table *table) {
    *table = (struct table){.capacity = FIRST_CAPACITY};
    table->entries = checked(calloc(table->capacity, sizeof *table->entries));
}

void table_add(struct table *table, const char *word) {
    struct entry *entry = find(table->entries, table->capacity, word);
    if (entry->word == NULL) {
        entry->word = strcpy(checked(malloc(strlen(word) + 1)), word);
        table->used++;
    }
    entry->count++;
    table->total++;
    if (table->used * 4 > table->capacity * 3)
        grow(table);
}

void table_free(struct table *table) {
    for (size_t i = 0; i < table->capacity; i++)
        free(table->entries[i].word);
    free(table->entries);
}

static int by_count(const void *left, const void *right) {
    const struct entry *a = left, *b = right;
    if (a->count != b->count)
        return a->count < b->count ? 1 : -1;
    return strcmp(a->word, b->word);
}

struct entry *table_sorted(const struct table *table) {
    struct entry *sorted = checked(calloc(table->used + 1, sizeof *sorted));
    size_t next = 0;
    for (size_t i = 0; i < table->capacity; i++)
        if (table->entries[i].word != NULL)
            sorted[next++] = table->entries[i];
    qsort(sorted, table->used, sizeof *sorted, by_count);
    return sorted;
}
