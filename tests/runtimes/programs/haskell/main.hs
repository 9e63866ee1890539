import qualified Data.Map as Map
import Total

main :: IO ()
main = do
  print (Map.foldr (+) 0 (Map.fromList [(i, i) | i <- numbers 100]))
  getLine >>= putStrLn
