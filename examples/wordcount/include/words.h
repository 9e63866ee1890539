#ifndef WORDS_H
#define WORDS_H

#include <stdbool.h>
#include <stdio.h>

enum { WORD_MAX = 64 };

/* Reads the next word of `file`, in lower case, into `word` (WORD_MAX bytes); false at the end.
 * A word is a run of letters and apostrophes; what is longer than WORD_MAX - 1 is cut. */
bool next_word(FILE *file, char *word);

#endif
