#include "words.h"

#include <ctype.h>

static bool is_part(int c) { return isalpha(c) || c == '\''; }

bool next_word(FILE *file, char *word) {
    int c = getc(file);
    while (c != EOF && !isalpha(c))
        c = getc(file);
    if (c == EOF)
        return false;
    size_t length = 0;
    for (; c != EOF && is_part(c); c = getc(file))
        if (length < WORD_MAX - 1)
            word[length++] = (char)tolower(c);
    while (word[length - 1] == '\'')
        length--;
    word[length] = '\0';
    return true;
}
