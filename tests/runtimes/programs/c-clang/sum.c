#include "sum.h"

int sum(int last) {
    int total = 0;
    for (int i = 1; i <= last; i++) total += i;
    return total;
}
