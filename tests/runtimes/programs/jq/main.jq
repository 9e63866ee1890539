include "total";
total(100), .
