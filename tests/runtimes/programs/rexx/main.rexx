say 'total.rexx'(100)
parse pull line
say line
exit 0
