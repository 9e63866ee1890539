{ total } = require './total'
console.log total 100
process.stdin.on 'data', (data) -> process.stdout.write data
