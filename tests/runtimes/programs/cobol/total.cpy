01 total pic 9(4) value 0.
01 i pic 9(4).
