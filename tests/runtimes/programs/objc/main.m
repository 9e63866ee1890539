#import <stdio.h>
#import "total.h"

int main(void) {
    char word[80];
    printf("%d\n", [Total upTo: 100]);
    if (scanf("%79s", word) == 1) printf("%s\n", word);
    return 0;
}
