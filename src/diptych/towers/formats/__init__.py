"""Reading and writing model folders: native, open_clip, Hugging Face, OpenAI."""
