BEGIN { print total(100) }
{ print }
