export function total(last: number): number {
  return Array.from({ length: last }, (_, i) => i + 1).reduce((a, b) => a + b);
}
