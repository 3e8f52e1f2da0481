"""Reading of OpenAI's original `.pt` files, without executing code in them."""
