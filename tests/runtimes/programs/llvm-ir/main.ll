@format = constant [4 x i8] c"%d\0A\00"
@line = global [81 x i8] zeroinitializer
declare i32 @total(i32)
declare i32 @printf(i8*, ...)
declare i32 @puts(i8*)
declare i32 @scanf(i8*, ...)
@word = constant [5 x i8] c"%79s\00"

define i32 @main() {
  %sum = call i32 @total(i32 100)
  %text = getelementptr [4 x i8], [4 x i8]* @format, i64 0, i64 0
  call i32 (i8*, ...) @printf(i8* %text, i32 %sum)
  %form = getelementptr [5 x i8], [5 x i8]* @word, i64 0, i64 0
  %line = getelementptr [81 x i8], [81 x i8]* @line, i64 0, i64 0
  call i32 (i8*, ...) @scanf(i8* %form, i8* %line)
  call i32 @puts(i8* %line)
  ret i32 0
}
