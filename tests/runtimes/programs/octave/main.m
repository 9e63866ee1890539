printf("%d\n", total(100));
printf("%s\n", fgetl(stdin));
