#include <stdio.h>
#include "sum.h"

int main(void) {
    char word[80];
    printf("%d\n", sum(100));
    if (scanf("%79s", word) == 1) printf("%s\n", word);
    return 0;
}
