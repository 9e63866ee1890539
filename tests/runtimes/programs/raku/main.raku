use lib '.';
use Total;

say total(100);
say get;
