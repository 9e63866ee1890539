#import <objc/Object.h>

@interface Total : Object
+ (int) upTo: (int) last;
@end
