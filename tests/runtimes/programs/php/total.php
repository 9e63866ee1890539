<?php
function total(int $last): int {
    return array_sum(range(1, $last));
}
