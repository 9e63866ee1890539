defmodule Total do
  def up_to(last), do: Enum.sum(1..last)
end
