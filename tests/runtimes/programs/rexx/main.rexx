say total(100)
parse pull line
say line
exit 0
