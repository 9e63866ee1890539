#import "total.h"

@implementation Total
+ (int) upTo: (int) last {
    int sum = 0;
    int i;
    for (i = 1; i <= last; i++) sum += i;
    return sum;
}
@end
