/* Counts the words of the files named on the command line. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "report.h"
#include "table.h"
#include "words.h"

enum { MOST = 10 };

static int failed(const char *path) {
    fprintf(stderr, "wordcount: %s: %s\n", path, strerror(errno));
    return 1;
}

static int count(struct table *table, const char *path) {
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return failed(path);
    char word[WORD_MAX];
    while (next_word(file, word))
        table_add(table, word);
    int status = ferror(file) ? failed(path) : 0; /* a directory can be opened, not read */
    fclose(file);
    return status;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: %s FILE...\n", argv[0]);
        return 2;
    }
    struct table table;
    table_init(&table);
    int status = 0;
    for (int i = 1; i < argc; i++)
        status |= count(&table, argv[i]);
    report(&table, MOST);
    table_free(&table);
    return status;
}
