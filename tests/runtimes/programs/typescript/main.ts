import { total } from "./total";

declare const process: any;
console.log(total(100));
process.stdin.on("data", (data: string) => process.stdout.write(data));
