use strict;
use lib '.';
use Total;

print Total::total(100), "\n";
print scalar <STDIN>;
