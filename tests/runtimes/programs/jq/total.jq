def total($last): reduce range(1; $last + 1) as $i (0; . + $i);
