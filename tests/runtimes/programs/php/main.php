<?php
require 'total.php';
session_start();
$_SESSION['total'] = total(100);
session_write_close();
session_start();
echo $_SESSION['total'], "\n", fgets(STDIN);
